*** Settings ***
Documentation     Four nodes boot, and say who they are.
Resource          federation.resource
Suite Setup       Start Federation    ${EXPERIMENTS}/smoke.toml    nodes.backend=${BACKEND}

*** Test Cases ***
Every Node Says Hello With The Version Of The Orchestrator
    Every Node Should Run Version

Every Node Runs The Same Build
    Every Node Should Run The Same Build

Every Node Answers
    FOR    ${node}    IN RANGE    4
        Node Should Be Running    ${node}
    END
