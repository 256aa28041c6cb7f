"""A model server on loopback that the real agent CLIs talk to: scripted by `[[directives]]` in the prompt.

directives  what a prompt may ask for          conversation  what every API's request comes down to
obliging    tools called without directives
reply       directives -> what to say           stream        what to say -> paced steps on the wire
anthropic, responses, chat, gemini              one wire format each, pure functions
side        the CLIs' own errands               request_log   who asked what, and how it ended
connection  HTTP/1.1 on one socket              server        routes, and the handle tests hold
"""

from tests.fake_model.request_log import Request, RequestLog
from tests.fake_model.server import FakeModel, serve

__all__ = ["FakeModel", "Request", "RequestLog", "serve"]
