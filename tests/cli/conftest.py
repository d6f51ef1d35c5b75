"""What tests of the command line share."""

import pytest

from tests.helpers.checkpoints import write_clusters


@pytest.fixture(scope="session")
def clusters(tmp_path_factory):
    """Three groups of points that overlap a little."""
    return write_clusters(tmp_path_factory.mktemp("data") / "clusters.npz")
