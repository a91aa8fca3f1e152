*** Settings ***
Library    tinymetafed.robot

*** Variables ***
${BACKEND}    qemu

*** Test Cases ***
The Federation Learns Although A Node Is Away
    Start Federation    ${CURDIR}/pumps.toml    nodes.backend=${BACKEND}
    ${before}=    Get Loss
    Run Rounds    5
    Unplug Node    1
    Run Rounds    10
    Plug In Node    1
    Run Rounds    5
    Node Should Be Running    1
    Loss Should Be Below    ${{ 0.8 * $before }}
    Bytes Per Round Should Be Below    6 kB
