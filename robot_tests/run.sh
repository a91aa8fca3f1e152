#!/usr/bin/env bash
# Runs the scenarios on QEMU and, where there is one, on Renode; the results come into build/robot.
set -uo pipefail
cd "$(dirname "$0")/.."
trap 'exit 130' INT
out=build/robot
mkdir -p "$out"
failed=0

libdoc --quiet tinymetafed.robot "$out/tinymetafed.html" || failed=1
for backend in qemu renode; do
    robot --name "Scenarios on $backend" --variable "BACKEND:$backend" --exclude renode-test \
        --outputdir "$out/$backend" --xunit junit.xml robot_tests || failed=1
done

renode=$(python -c 'from tinymetafed.nodes import renode; print(renode.program() or "")')
if [[ $renode ]]; then
    folder=$(dirname "$(realpath "$renode")")
    # What a portable Renode's renode-test imports; it wants a Robot Framework of its own choice.
    requirements=$folder/tests/requirements.txt
    if [[ -f $requirements ]]; then
        tools=build/renode-test
        [[ -f $tools/.installed ]] || { python -m venv $tools && $tools/bin/pip install --quiet \
            --disable-pip-version-check -r "$requirements" && touch $tools/.installed; } || failed=1
        PATH=$PWD/$tools/bin:$PATH
    fi
    "$folder/renode-test" --results-dir "$out/renode-test" robot_tests/renode/boot.robot || failed=1
    rebot --nostatusrc --output NONE --log NONE --report NONE \
        --outputdir "$out/renode-test" --xunit junit.xml "$out/renode-test/robot_output.xml"
fi
exit $failed
