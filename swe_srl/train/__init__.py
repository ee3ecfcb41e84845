"""One trainer for SFT and SRL: they differ in where groups come from, and in the objective that is summed."""
