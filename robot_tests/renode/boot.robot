*** Settings ***
Documentation     The images as they are flashed, on Renode with its own keywords and nothing of ours in
...               between. For renode-test, which brings these keywords.
Test Tags         renode-test
Library           hello.py
Suite Setup       Set Up Under Renode Test

*** Variables ***
${RENODEKEYWORDS}    ${EMPTY}    # given by renode-test
${PROJECT}           ${CURDIR}/../..

*** Test Cases ***
Bare Metal Boots And Says Hello
    Image Should Boot And Say Hello    ${PROJECT}/build/mps2/tinymetafed.elf

Zephyr Boots And Says Hello
    ${image}=    Set Variable    ${PROJECT}/build/zephyr/mps2_an386/zephyr/zephyr.elf
    Skip If    not os.path.exists($image)    'make zephyr' builds it
    Image Should Boot And Say Hello    ${image}

*** Keywords ***
Set Up Under Renode Test
    Skip If    not $RENODEKEYWORDS    this suite is for renode-test
    Run Keyword    Setup

Image Should Boot And Say Hello
    [Arguments]    ${image}
    Execute Command    mach create
    Execute Command    machine LoadPlatformDescription @${PROJECT}/emulation/renode/mps2_an386.repl
    Execute Command    sysbus LoadELF @${image}
    Execute Command    cpu AddHook `sysbus GetSymbolAddress "tmf_phase_idle"` "self.InfoLog('is idle')"
    Create Terminal Tester    sysbus.uart0    binaryMode=true
    Create Log Tester    2
    Start Emulation
    ${frame}=    Wait For Bytes On Uart    [^\\x00]+\\x00    treatAsRegex=true
    ${hello}=    Decode Hello    ${frame.Content}
    Should Match Regexp    ${hello}[version]    ^\\d+\\.\\d+\\.\\d+$
    Should Be True    $hello["build"] in pathlib.Path($image).read_bytes()    The hello has the build of another image
    Wait For Log Entry    is idle
