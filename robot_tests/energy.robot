*** Settings ***
Documentation     TinyMetaFed beside Reptile: two nodes each, rounds after the first, in which all
...               weights go out. The limits are a tenth above what was measured with GCC 12.2.
Resource          federation.resource
Suite Setup       Run Both Strategies

*** Test Cases ***
TinyMetaFed Uses Less Energy Than Reptile
    Should Use Less Energy    tinymetafed    reptile

TinyMetaFed Keeps Within Its Limits
    Switch Federation    tinymetafed
    Energy Per Round Should Be Below    4.5 mJ
    Bytes Per Round Should Be Below    20 kB
    Instructions Per Round Should Be Below    learn    1 420 000

*** Keywords ***
Run Both Strategies
    FOR    ${strategy}    ${experiment}    IN    tinymetafed    demo    reptile    reptile
        Start Federation    ${EXPERIMENTS}/${experiment}.toml    nodes.backend=${BACKEND}
        ...    nodes.count=2    federation=${strategy}
        Skip Unless Instructions Are Counted
        Run Rounds    1
        Run Rounds    2
    END
