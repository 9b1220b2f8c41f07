"""All that touches Flower: messages, apps, grids and engines; `api` is the one import of flwr."""
