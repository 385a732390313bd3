"""
How questions are read and answered without a model. Pure, but for `evidence`.
"""
