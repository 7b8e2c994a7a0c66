"""Graphs as files that Netron (https://netron.app) shows: the XML of OpenVINO's IR, without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

from nncf_core.files import replacing
from nncf_core.graph import Port
from nncf_core.node_views import NNCFGraph, NNCFNode


def save_for_netron(
    graph: NNCFGraph,
    save_path: str | Path,
    graph_name: str = "Graph",
    include_fq_params: bool = False,
    get_attributes_fn: Callable[[NNCFNode], Mapping[str, object]] | None = None,
) -> None:
    """Write a graph to an XML file to look at.

    :param graph: what :func:`nncf.build_graph` gives.
    :param save_path: a path that ends with ``.xml``.
    :param graph_name: shown as the model's name.
    :param include_fq_params: taken so that scripts run: ranges of quantizers are no part of a graph.
    :param get_attributes_fn: attributes to show of a node; by default its kind.
    :raises InvalidPathError: when the folder does not exist or cannot be written to.
    """
    root = ElementTree.Element("net", {"name": graph_name, "version": "11"})
    layers, edges = ElementTree.SubElement(root, "layers"), ElementTree.Element("edges")
    produced: dict[str, tuple[str, str]] = {}
    for index, node in enumerate(graph):
        layer = ElementTree.SubElement(
            layers, "layer", {"id": str(index), "name": node.name, "type": node.op_type, "version": "opset1"}
        )
        view = NNCFNode(index, node.name, node.op_type)
        shown = {"kind": node.kind.value} if get_attributes_fn is None else get_attributes_fn(view)
        ElementTree.SubElement(layer, "data", {key: str(value) for key, value in shown.items()})
        for number, port in enumerate(node.inputs):
            _port(_child(layer, "input"), number, port)
            if port.tensor in produced:
                source, output = produced[port.tensor]
                ends = {"from-layer": source, "from-port": output, "to-layer": str(index), "to-port": str(number)}
                ElementTree.SubElement(edges, "edge", ends)
        for number, port in enumerate(node.outputs, start=len(node.inputs)):
            _port(_child(layer, "output"), number, port)
            produced[port.tensor] = (str(index), str(number))
    root.append(edges)
    ElementTree.indent(root)
    with replacing(Path(save_path)) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _child(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    found = parent.find(name)
    return ElementTree.SubElement(parent, name) if found is None else found


def _port(parent: ElementTree.Element, number: int, port: Port) -> None:
    element = ElementTree.SubElement(
        parent, "port", {"id": str(number), "precision": _PRECISIONS.get(port.dtype or "", "dynamic")}
    )
    for size in port.shape or ():
        ElementTree.SubElement(element, "dim").text = "-1" if size is None else str(size)


_PRECISIONS = {
    "float32": "FP32", "float16": "FP16", "bfloat16": "BF16", "float64": "FP64", "int64": "I64", "int32": "I32",
    "int8": "I8", "uint8": "U8", "int4": "I4", "uint4": "U4", "bool": "BOOL",
}  # fmt: skip
