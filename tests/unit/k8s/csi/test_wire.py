"""The numbers of the public interfaces: our two ends would agree on wrong ones, and nobody else would."""

import pytest

from cachefs.k8s.csi.proto import csi_pb2 as csi
from cachefs.k8s.csi.proto import registration_pb2 as registration

FIELDS = {
    "GetPluginInfoResponse": "name=1 vendor_version=2 manifest=3",
    "GetPluginCapabilitiesResponse": "capabilities=1",
    "PluginCapability": "service=1",
    "PluginCapability.Service": "type=1",
    "ProbeResponse": "ready=1",
    "CreateVolumeRequest": "name=1 capacity_range=2 volume_capabilities=3 parameters=4 volume_content_source=6",
    "CreateVolumeResponse": "volume=1",
    "Volume": "capacity_bytes=1 volume_id=2 volume_context=3",
    "CapacityRange": "required_bytes=1 limit_bytes=2",
    "VolumeCapability": "block=1 mount=2 access_mode=3",
    "VolumeCapability.MountVolume": "fs_type=1 mount_flags=2 volume_mount_group=3",
    "VolumeCapability.AccessMode": "mode=1",
    "VolumeContentSource": "snapshot=1 volume=2",
    "DeleteVolumeRequest": "volume_id=1",
    "ValidateVolumeCapabilitiesRequest": "volume_id=1 volume_context=2 volume_capabilities=3 parameters=4",
    "ValidateVolumeCapabilitiesResponse": "confirmed=1 message=2",
    "ValidateVolumeCapabilitiesResponse.Confirmed": "volume_context=1 volume_capabilities=2 parameters=3",
    "ControllerGetCapabilitiesResponse": "capabilities=1",
    "ControllerServiceCapability": "rpc=1",
    "ControllerServiceCapability.RPC": "type=1",
    "NodePublishVolumeRequest": "volume_id=1 publish_context=2 staging_target_path=3 target_path=4 "
    "volume_capability=5 readonly=6 volume_context=8",
    "NodeUnpublishVolumeRequest": "volume_id=1 target_path=2",
    "NodeGetVolumeStatsRequest": "volume_id=1 volume_path=2 staging_target_path=3",
    "NodeGetVolumeStatsResponse": "usage=1 volume_condition=2",
    "VolumeUsage": "available=1 total=2 used=3 unit=4",
    "VolumeCondition": "abnormal=1 message=2",
    "NodeGetCapabilitiesResponse": "capabilities=1",
    "NodeServiceCapability": "rpc=1",
    "NodeServiceCapability.RPC": "type=1",
    "NodeGetInfoResponse": "node_id=1 max_volumes_per_node=2 accessible_topology=3",
    "Topology": "segments=1",
}
VALUES = {
    "PluginCapability.Service.Type": "UNKNOWN=0 CONTROLLER_SERVICE=1 VOLUME_ACCESSIBILITY_CONSTRAINTS=2",
    "VolumeCapability.AccessMode.Mode": "UNKNOWN=0 SINGLE_NODE_WRITER=1 SINGLE_NODE_READER_ONLY=2 "
    "MULTI_NODE_READER_ONLY=3 MULTI_NODE_SINGLE_WRITER=4 MULTI_NODE_MULTI_WRITER=5 "
    "SINGLE_NODE_SINGLE_WRITER=6 SINGLE_NODE_MULTI_WRITER=7",
    "ControllerServiceCapability.RPC.Type": "UNKNOWN=0 CREATE_DELETE_VOLUME=1",
    "NodeServiceCapability.RPC.Type": "UNKNOWN=0 STAGE_UNSTAGE_VOLUME=1 GET_VOLUME_STATS=2 "
    "EXPAND_VOLUME=3 VOLUME_CONDITION=4 SINGLE_NODE_MULTI_WRITER=5 VOLUME_MOUNT_GROUP=6",
    "VolumeUsage.Unit": "UNKNOWN=0 BYTES=1 INODES=2",
}
REGISTRATION = {
    "InfoRequest": "",
    "PluginInfo": "type=1 name=2 endpoint=3 supported_versions=4",
    "RegistrationStatus": "plugin_registered=1 error=2",
    "RegistrationStatusResponse": "",
}


def find(module, path):
    found = module.DESCRIPTOR
    for name in path.split("."):
        inner = (
            getattr(found, each, {}) for each in ("message_types_by_name", "enum_types_by_name")
        )
        nested = (getattr(found, each, {}) for each in ("nested_types_by_name",))
        found = next(each[name] for each in (*inner, *nested) if name in each)
    return found


def fields(descriptor):
    return " ".join(f"{each.name}={each.number}" for each in descriptor.fields)


@pytest.mark.parametrize(("message", "numbers"), FIELDS.items())
def test_the_fields_of_a_message_are_the_interfaces(message, numbers):
    assert fields(find(csi, message)) == numbers


@pytest.mark.parametrize(("kind", "numbers"), VALUES.items())
def test_the_values_of_a_kind_are_the_interfaces(kind, numbers):
    assert " ".join(f"{each.name}={each.number}" for each in find(csi, kind).values) == numbers


@pytest.mark.parametrize(("message", "numbers"), REGISTRATION.items())
def test_the_fields_of_a_registration_are_the_kubelets(message, numbers):
    assert fields(find(registration, message)) == numbers


def test_the_calls_have_the_interfaces_names():
    services = {
        service.full_name: {method.name for method in service.methods}
        for module in (csi, registration)
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    assert services == {
        "csi.v1.Identity": {"GetPluginInfo", "GetPluginCapabilities", "Probe"},
        "csi.v1.Controller": {
            "CreateVolume",
            "DeleteVolume",
            "ValidateVolumeCapabilities",
            "ControllerGetCapabilities",
        },
        "csi.v1.Node": {
            "NodePublishVolume",
            "NodeUnpublishVolume",
            "NodeGetVolumeStats",
            "NodeGetCapabilities",
            "NodeGetInfo",
        },
        "pluginregistration.Registration": {"GetInfo", "NotifyRegistrationStatus"},
    }
