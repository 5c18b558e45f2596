"""An S3 server that knows conditional puts: prints its port, keeps all in memory, takes a request at a time.

The server is moto's; the one of the other tests, rclone's, keeps its objects as files but knows no conditions.
"""

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
    print(server.server_port, flush=True)
    server.serve_forever()
