"""From raw clips to everything that can be had of them, in one command that can be killed and goes on."""
