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

renode=$(python -c 'from tinymetafed.nodes import renode_console; print(renode_console.program() or "")')
renode=$(command -v "${renode:-}" || true)
folder=$(dirname "$(realpath "${renode:-/}")")
# A script or a package that starts Renode may have renode-test elsewhere.
if [[ ! -x $folder/renode-test ]] && other=$(command -v renode-test); then
    folder=$(dirname "$(realpath "$other")")
fi
tools=build/renode-test
requirements=$folder/tests/requirements.txt # what renode-test imports, in versions of its own choice

# Prints why renode-test cannot run; prints nothing where it can.
missing() {
    if [[ -z $renode ]]; then
        echo "there is no Renode: 'make renode', or name yours in TMF_RENODE"
    elif [[ ! -x $folder/renode-test ]]; then
        echo "$renode has no renode-test beside it, nor is one on the PATH"
    elif [[ -f $requirements && ! -f $tools/.installed ]] && ! install >build/build.log 2>&1; then
        echo "what $requirements names could not be installed into $tools: $(tail -n 1 build/build.log)"
    else
        [[ -f $requirements ]] && PATH=$PWD/$tools/bin:$PATH
        python3 -c 'import psutil, robot, yaml' 2>&1 | tail -n 1 |
            sed "s|^|$(PATH=$PATH command -v python3), which would run it: |"
    fi
}
install() {
    python -m venv "$tools" && "$tools/bin/pip" install --quiet --disable-pip-version-check \
        -r "$requirements" && touch "$tools/.installed"
}

reason=$(missing)
if [[ $reason ]]; then
    echo "renode-test is left out: $reason" >&2
    [[ -x $folder/renode-test ]] && failed=1 # it is there, and cannot run
else
    [[ -f $requirements ]] && PATH=$PWD/$tools/bin:$PATH
    "$folder/renode-test" --results-dir "$out/renode-test" robot_tests/renode/boot.robot || failed=1
    rebot --nostatusrc --output NONE --log NONE --report NONE \
        --outputdir "$out/renode-test" --xunit junit.xml "$out/renode-test/robot_output.xml"
fi
exit $failed
