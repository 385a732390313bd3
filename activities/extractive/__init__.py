"""
Questions, read and answered without a model. Pure, except for `evidence`.
"""
