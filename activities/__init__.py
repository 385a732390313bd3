"""
What can fail: the agents of the shipped crew, one trade a file, and the books.
"""
