"""Methods of one's own, as a package beside the program that uses them."""
