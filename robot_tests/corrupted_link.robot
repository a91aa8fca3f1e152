*** Settings ***
Documentation     Bytes are lost or changed on their way; the work is done all the same, and once.
Resource          federation.resource

*** Test Cases ***
Corrupted Links Change Nothing
    Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=${BACKEND}    nodes.count=2
    ...    nodes.timeout=2    federation=corrupted
    Corrupt Links    2e-5
    Run Rounds    4
    Links Should Have Been Corrupted
    Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=host    nodes.count=2
    ...    federation=clean
    Run Rounds    4
    Weights Should Be Identical    corrupted    clean
