"""The Anthropic surface: `/anthropic/v1` (contract, section 5), for clients that know only Anthropic's API.

request    what a caller asks, and `reading`: what of it an agent is told
events     what is answered, and `sequence`: a turn's events as those of a message
counting   tokens estimated, not counted
models     the models that are offered
messages   from a request to its answer
routes     all of it under its paths
"""

from clinvoker.api.anthropic.routes import register

__all__ = ["register"]
