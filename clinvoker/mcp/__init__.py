"""The client's tools as a server of the Model Context Protocol, for agents that take tools in no other way.

server   the protocol, as far as tools need it
gate     where servers are reached by agents that start one as a program of their own; connection: one of those
bridge   that program, which passes everything on
"""
