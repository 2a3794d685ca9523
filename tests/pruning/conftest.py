"""Lets the tests of this folder and of those below it import small_nets."""
