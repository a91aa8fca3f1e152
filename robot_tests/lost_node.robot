*** Settings ***
Documentation     Nodes that get lost, and come back.
Resource          federation.resource
Test Setup        Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=${BACKEND}
...               nodes.count=3

*** Test Cases ***
Rounds Go On Without A Node That Is Unplugged
    Run Rounds    1
    Unplug Node    1
    Node Should Be Lost    1
    Run Rounds    2
    Plug In Node    1
    Node Should Be Running    1
    Run Rounds    1

A Node That Loses Its Power Changes Nothing
    Run Rounds    1
    Cut Power Of Node    2
    Node Should Be Lost    2
    Run Rounds    1
    Node Should Be Running    2
    Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=host    nodes.count=3
    ...    federation=undisturbed
    Run Rounds    2
    Weights Should Be Identical    federation    undisturbed
