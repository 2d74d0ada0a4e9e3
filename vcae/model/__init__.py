"""Networks and what they compute on: tensors only, no files and no devices."""
