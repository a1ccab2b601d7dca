"""What is fed with anything at all: each `fuzz_NAME` module has one `one_input(data)`, which raises on a fault.

`scripts/fuzz` runs them under atheris; tests/fuzz/test_corpus.py plays the inputs in tests/corpus/NAME without it.
"""
