"""How good a network is: accuracy and its report, whatever the network runs on."""
