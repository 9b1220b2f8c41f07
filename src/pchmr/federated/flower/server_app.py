"""The Flower ServerApp: hands the grid to the server and lets it run its rounds."""

from pchmr.federated.flower.api import Context, Grid, ServerApp
from pchmr.federated.flower.server import Server


def make_server_app(server: Server) -> ServerApp:
    """The app that every engine runs."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        server.run(grid)

    return app
