*** Settings ***
Documentation     Bytes and frames are lost or changed on their way; the work is done all the same, and once.
Resource          federation.resource

*** Test Cases ***
Corrupted Links Change Nothing
    Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=${BACKEND}    nodes.count=2
    ...    federation=corrupted
    Corrupt Links    2e-5    lost_frames=0.05    doubled_frames=0.1    reordered_frames=0.05
    Run Rounds    4
    Links Should Have Been Corrupted
    Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=host    nodes.count=2
    ...    federation=clean
    Run Rounds    4
    Weights Should Be Identical    corrupted    clean
