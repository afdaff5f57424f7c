"""How a client of the service should behave, as gRPC's service config: for clients in any language.

See https://github.com/grpc/grpc/blob/master/doc/service_config.md.
"""

from typing import Any

SERVICE_CONFIG: dict[str, Any] = {
    # Calls go in turn to all replicas behind a name, without those whose health says NOT_SERVING: one
    # that is about to stop says so while it still serves.
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    # Calls have no side effect, so a lost one may be sent again; CANCELLED is what a call gets that
    # reaches a server just as it stops. The throttle keeps retries from burying a server that is
    # overloaded: it stops them while more than every eleventh call fails. Before that it lets 500 through,
    # for the calls that one connection has under way when a replica is killed.
    "methodConfig": [
        {
            "name": [
                {"service": "makemore.v1.GenerationService"},
                {"service": "makemore.v1.ModelService"},
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1},
}
