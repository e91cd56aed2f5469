"""Requests to AWS: signed here, sent by Waypost's own HTTP client.

One message through a vendor's client stack costs more CPU than everything else that Waypost does for it. What a sender
needs of AWS is small: a signature, three encodings of requests, and the meaning of the errors.
"""
