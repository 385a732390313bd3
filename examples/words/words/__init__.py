"""
The agents of words.
"""
