"""The examples for Argo CD and Flux refer to what is there."""

from tests.unit.chart.rendering import MANIFESTS, ROOT, Object, parse, render


def documents() -> list[Object]:
    return [item for file in sorted(MANIFESTS.glob("gitops/*/*.yaml")) for item in parse(file.read_text())]


def test_paths_in_the_examples_are_there() -> None:
    paths = []
    for item in documents():
        spec = item.get("spec", {})
        paths += [spec[name]["path"] for name in ("source",) if name in spec]
        paths += [spec["path"]] if "path" in spec else []
        paths += [spec["chart"]["spec"]["chart"]] if "chart" in spec else []
    assert len(paths) == 5
    assert [path for path in paths if not (ROOT / path).is_dir()] == []


def test_values_in_the_examples_are_good() -> None:
    values = [
        spec["source"]["helm"]["valuesObject"] if "source" in spec else spec["values"]
        for item in documents()
        if "values" in (spec := item.get("spec", {})) or "helm" in spec.get("source", {})
    ]
    assert len(values) == 2
    for each in values:
        assert render(each)


def test_sources_in_the_flux_examples_are_there() -> None:
    for file in (MANIFESTS / "gitops" / "flux").glob("*.yaml"):
        objects = parse(file.read_text())
        sources = {item["metadata"]["name"] for item in objects if item["kind"] == "GitRepository"}
        for item in objects:
            spec = item["spec"]
            for holder in (spec, spec.get("chart", {}).get("spec", {})):
                assert holder.get("sourceRef", {"name": next(iter(sources))})["name"] in sources
