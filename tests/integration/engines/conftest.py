"""What tests of engines' plug-ins share: a model of the module's ``SIZES``, whole on this node or not.

``SIZES`` is what :func:`tests.integration.sdk_models.save_weights` takes.
"""

import pytest

from tests.integration.sdk_models import save_weights
from tests.integration.sdk_systems import running


@pytest.fixture(scope="module")
def origin(request, tmp_path_factory):
    """Return the folder of a model."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("origin")
    save_weights(folder, **request.module.SIZES)
    return folder


@pytest.fixture(scope="module")
def whole(origin, tmp_path_factory):
    """Return a system with the dataset ``llama``: of one worker, so that files are whole here."""
    run = tmp_path_factory.mktemp("whole")
    with running(run, {"llama": origin}, ("llama",)) as system:
        yield system


@pytest.fixture(scope="module")
def spread(origin, tmp_path_factory):
    """Return another, of two workers, each of which has some blocks."""
    run = tmp_path_factory.mktemp("spread")
    with running(run, {"llama": origin}, ("llama",), workers=2) as system:
        yield system


@pytest.fixture(params=["whole", "spread"])
def system(request):
    return request.getfixturevalue(request.param)
