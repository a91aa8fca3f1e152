#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that are missing; asks for nothing where none is.
set -euo pipefail

declare -A provides=(
    [arm-none-eabi-gcc]=gcc-arm-none-eabi
    [qemu-system-arm]=qemu-system-arm
    [cmake]=cmake
    [ninja]=ninja-build
    [cc]=gcc
)
missing=()
for program in "${!provides[@]}"; do
    command -v "$program" >/dev/null || missing+=("${provides[$program]}")
done
compiles() { echo '#include <string.h>' | "$1" -fsyntax-only -xc - 2>/dev/null; }
compiles arm-none-eabi-gcc || missing+=(libnewlib-arm-none-eabi)
compiles cc || missing+=(libc6-dev)
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

((${#missing[@]})) || exit 0
if ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]} (Debian's names). There is no apt-get here: install them with this system's package manager, then run make again." >&2
    exit 1
fi
sudo=()
if ((EUID != 0)); then
    command -v sudo >/dev/null || {
        echo "Missing: ${missing[*]}. Ask somebody who may to run: apt-get install ${missing[*]}" >&2
        exit 1
    }
    sudo=(sudo)
fi
echo "Installing ${missing[*]}"
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
