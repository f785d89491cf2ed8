"""`idlora parity`: run our code on golden cases, and say how far it is from the numbers that they hold."""
