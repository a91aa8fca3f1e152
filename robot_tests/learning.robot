*** Settings ***
Documentation     Forty rounds of TinyMetaFed on three nodes.
Resource          federation.resource
Suite Setup       Learn For Forty Rounds

*** Test Cases ***
Unseen Devices Adapt With Less Than Three Quarters Of The Loss
    Loss Should Be Below    ${{ 0.75 * $LOSS_AT_START }}

The Host Comes To The Same Weights
    Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=host    nodes.count=3
    ...    rounds=40    federation=host
    Run Rounds    40
    Weights Should Be Identical    emulated    host

*** Keywords ***
Learn For Forty Rounds
    Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=${BACKEND}    nodes.count=3
    ...    rounds=40    federation=emulated
    ${loss}=    Get Loss
    Set Suite Variable    ${LOSS_AT_START}    ${loss}
    Run Rounds    40
