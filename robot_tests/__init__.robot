*** Settings ***
Documentation    Scenarios on a federation of emulated nodes. `make robot` runs them.
Resource         federation.resource
Suite Setup      Run Keyword If    $BACKEND == 'renode'    Skip Unless Renode Is Installed
