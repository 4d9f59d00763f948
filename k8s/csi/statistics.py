"""What the driver says of itself to Prometheus."""

from collections.abc import Iterator

from cachefs.fuse.keeping.shelf import ShelfStatistics
from cachefs.k8s.csi.publishing import PublisherStatistics
from cachefs.telemetry.metrics import Sample


def samples(publisher: PublisherStatistics, shelf: ShelfStatistics) -> Iterator[Sample]:
    """Yield it as samples."""
    yield "cachefs_csi_mounted", (), float(publisher.mounted)
    yield "cachefs_csi_targets", (), publisher.targets
    yield "cachefs_csi_published_total", (), publisher.published
    yield "cachefs_csi_unpublished_total", (), publisher.unpublished
    yield "cachefs_csi_failures_total", (), publisher.failures
    yield "cachefs_csi_refused_total", (), publisher.refused
    yield "cachefs_csi_healed_total", (), publisher.healed
    yield "cachefs_csi_shelf_held", (), float(shelf.holds)
    yield "cachefs_csi_taken_over_total", (), shelf.given
    yield "cachefs_csi_given_up_total", (), shelf.given_up
