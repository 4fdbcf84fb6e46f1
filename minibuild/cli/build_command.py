"""``minibuild build``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from minibuild.cli import options, run_options
from minibuild.cli.contexts import given
from minibuild.cli.exits import reported
from minibuild.cli.interrupts import stoppable
from minibuild.cli.progress import sink_for
from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest, BuildResult
from minibuild.errors import OutputError, UsageError
from minibuild.exporters.spec import OutputSpec, parse_output
from minibuild.exporters.target import output_file
from minibuild.oci.reference import Reference

if TYPE_CHECKING:
    import typer

    from minibuild.cli.afterwards import Afterwards
    from minibuild.cli.on_error import OnError
    from minibuild.events import EventSink

_Texts = list[str] | None


def register(app: typer.Typer) -> None:
    global typer  # which reads the annotations below; see `cli.plain`
    import typer

    app.command("build", help="Build an image from a Dockerfile.")(command)


def command(
    context: Annotated[str, typer.Argument(help="Folder, archive or URL with the files; - for stdin.")],
    file: Annotated[str, typer.Option("-f", "--file", help="Dockerfile (default: CONTEXT/Dockerfile).")] = "",
    ignorefile: Annotated[str, typer.Option("--ignorefile", help="In place of .dockerignore.")] = "",
    tag: Annotated[_Texts, typer.Option("-t", "--tag", help="Name for the image.")] = None,
    target: Annotated[str, typer.Option("--target", help="Stage to build.")] = "",
    build_arg: Annotated[_Texts, typer.Option("--build-arg", help="NAME=VALUE for an ARG.")] = None,
    build_arg_file: Annotated[
        _Texts, typer.Option("--build-arg-file", help="File of NAME=VALUE lines.")
    ] = None,
    build_context: Annotated[
        _Texts, typer.Option("--build-context", help="NAME=FOLDER, image or URL.")
    ] = None,
    label: Annotated[_Texts, typer.Option("--label", help="NAME=VALUE on the image.")] = None,
    annotation: Annotated[_Texts, typer.Option("--annotation", help="NAME=VALUE on the manifest.")] = None,
    unset_env: Annotated[_Texts, typer.Option("--unset-env", help="Drop a variable of the base.")] = None,
    unset_label: Annotated[_Texts, typer.Option("--unset-label", help="Drop a label of the base.")] = None,
    unset_volume: Annotated[_Texts, typer.Option("--unset-volume", help="Drop a VOLUME of the base.")] = None,
    unset_expose: Annotated[_Texts, typer.Option("--unset-expose", help="Drop a port of the base.")] = None,
    unset_entrypoint: Annotated[
        bool, typer.Option("--unset-entrypoint", help="Drop the base's ENTRYPOINT.")
    ] = False,
    secret: Annotated[
        _Texts, typer.Option("--secret", help="id=NAME,src=FILE|env=VAR[,cache=content].")
    ] = None,
    ssh: Annotated[_Texts, typer.Option("--ssh", help="default, or ID=SOCKET or ID=KEYFILE[,...].")] = None,
    ca_bundle: Annotated[str, typer.Option("--ca-bundle", help="PEM file of CAs that RUN trusts.")] = "",
    dns: Annotated[_Texts, typer.Option("--dns", help="Address of a name server for RUN.")] = None,
    dns_search: Annotated[_Texts, typer.Option("--dns-search", help="Domain to look names up in.")] = None,
    dns_option: Annotated[_Texts, typer.Option("--dns-option", help="Option of resolv.conf.")] = None,
    shm_size: Annotated[str, typer.Option("--shm-size", help="Size of /dev/shm in RUN.")] = "",
    ulimit: Annotated[_Texts, typer.Option("--ulimit", help="NAME=SOFT[:HARD] for RUN.")] = None,
    memory: Annotated[str, typer.Option("-m", "--memory", help="Most memory for a RUN, as 2g.")] = "",
    cpus: Annotated[str, typer.Option("--cpus", help="Most processors for a RUN, as 1.5.")] = "",
    step_timeout: Annotated[str, typer.Option("--step-timeout", help="Longest a RUN may take.")] = "",
    on_error: Annotated[
        str, typer.Option("--on-error", help="shell, or export[=FILE]: look at a RUN that fails.")
    ] = "",
    output: Annotated[
        _Texts, typer.Option("-o", "--output", help="type=oci|docker|local|tar|image,...")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the Dockerfile, build nothing.")] = False,
    call: Annotated[
        str, typer.Option("--call", help="check, outline or targets[,format=json] instead of a build.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what is cached; execute nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: the plan as JSON.")] = False,
    push: Annotated[bool, typer.Option("--push", help="Push the image under its tags.")] = False,
    platform: Annotated[str, typer.Option("--platform", help="Platform to build for.")] = "",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Execute every step.")] = False,
    no_cache_filter: Annotated[_Texts, typer.Option("--no-cache-filter", help="Stage to execute.")] = None,
    no_cache_step: Annotated[
        _Texts, typer.Option("--no-cache-step", help="Step to execute: its number, or words in it.")
    ] = None,
    cache_ttl: Annotated[str, typer.Option("--cache-ttl", help="Execute steps with older results.")] = "",
    save_stages: Annotated[
        bool, typer.Option("--save-stages", help="Keep the other stages as images NAME:TAG-STAGE.")
    ] = False,
    squash: Annotated[
        str, typer.Option("--squash", help="One layer of all since the base: [new], or of everything: all.")
    ] = "",
    jobs: Annotated[str, typer.Option("--jobs", help="Most steps to execute at once (default: all).")] = "",
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure, go on with what does not need it.")
    ] = False,
    pull: Annotated[
        str, typer.Option("--pull", help="Ask registries for bases: [always], missing, newer or never.")
    ] = "missing",
    network: Annotated[str, typer.Option("--network", help="default, host or none, for every RUN.")] = "",
    add_host: Annotated[_Texts, typer.Option("--add-host", help="NAME:ADDRESS for /etc/hosts.")] = None,
    hostname: Annotated[str, typer.Option("--hostname", help="What RUN takes this machine to be.")] = "",
    volume: Annotated[_Texts, typer.Option("-v", "--volume", help="HOST:CONTAINER[:ro] for RUN.")] = None,
    allow: Annotated[
        _Texts, typer.Option("--allow", help="security.insecure, network.host or device[=NAME].")
    ] = None,
    cdi_spec_dir: Annotated[_Texts, typer.Option("--cdi-spec-dir", help="Where devices are listed.")] = None,
    registry_mirror: Annotated[_Texts, typer.Option("--registry-mirror", help="REGISTRY=MIRROR.")] = None,
    insecure_registry: Annotated[_Texts, typer.Option("--insecure-registry", help="Plain http.")] = None,
    isolation: Annotated[
        str, typer.Option("--isolation", envvar="MINIBUILD_ISOLATION", help="auto, or a mode doctor names.")
    ] = "auto",
    oci_runtime: Annotated[
        str, typer.Option("--oci-runtime", envvar="MINIBUILD_OCI_RUNTIME", help="runc, crun or a path.")
    ] = "",
    progress: Annotated[str, typer.Option("--progress", help="auto, plain, tty, rawjson or quiet.")] = "auto",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the image ID.")] = False,
    iidfile: Annotated[str, typer.Option("--iidfile", help="Write the image ID to a file.")] = "",
    metadata_file: Annotated[str, typer.Option("--metadata-file", help="Write digests as JSON.")] = "",
    cache_from: Annotated[
        _Texts, typer.Option("--cache-from", help="type=registry|local|s3|gcs|azblob|gha,...")
    ] = None,
    cache_to: Annotated[
        _Texts, typer.Option("--cache-to", help="type=registry|local|inline|s3|gcs|azblob|gha,...")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show all that changed for missed steps.")
    ] = False,
    summary: Annotated[str, typer.Option("--summary", help="Append a summary in Markdown to a file.")] = "",
    metrics_file: Annotated[str, typer.Option("--metrics-file", help="Write metrics for Prometheus.")] = "",
    otel: Annotated[
        bool, typer.Option("--otel", help="Send spans to where OTEL_EXPORTER_OTLP_ENDPOINT says.")
    ] = False,
) -> None:
    with reported():
        tags = tuple(Reference.parse(name) for name in tag or ())
        if json and not dry_run:
            raise UsageError("--json goes with --dry-run", cure="Add it, or see --progress=rawjson.")
        outputs = _outputs(output, push, tags)
        extras = _extras(
            unset_entrypoint, volume, annotation, unset_env, unset_label, unset_volume, unset_expose
        )
        args = _build_args(build_arg, build_arg_file)
        for name in (iidfile, metadata_file):
            if name and not Path(name).absolute().parent.is_dir():
                raise OutputError(f"cannot write {name}: no such folder", cure="Make its folder first.")
        with ExitStack() as stack:
            request = BuildRequest(
                **given(context, file, sys.stdin.buffer, stack)._asdict(),
                ignorefile=Path(ignorefile) if ignorefile else None,
                target=target,
                tags=tags,
                build_args=args,
                labels=options.pairs(label, "--label"),
                platform=options.platform(platform),
                no_cache=no_cache,
                no_cache_stages=tuple(name.lower() for name in no_cache_filter or ()),
                no_cache_steps=tuple(no_cache_step or ()),
                cache_ttl=options.age(cache_ttl, "--cache-ttl"),
                save_stages=save_stages,
                squash=squash,
                jobs=options.jobs(jobs),
                keep_going=keep_going,
                hostname=hostname,
                **extras,
                pull=pull,
                network=run_options.network(network),
                hosts=tuple(options.host(text) for text in add_host or ()),
                secrets=tuple(options.secret(text) for text in secret or ()),
                ssh=tuple(run_options.ssh_agent(text) for text in ssh or ()),
                dns=run_options.dns(dns, dns_search, dns_option),
                limits=run_options.limits(shm_size, ulimit, memory, cpus),
                step_timeout=run_options.duration(step_timeout, "--step-timeout"),
                ca_bundle=Path(ca_bundle) if ca_bundle else None,
                contexts=options.pairs(build_context, "--build-context"),
                outputs=outputs,
                registry=options.registry_options(registry_mirror, insecure_registry),
                isolation=options.isolation(isolation),
                **_allowances(allow, cdi_spec_dir),
                oci_runtime=oci_runtime,
                cache_from=options.caches(cache_from, "--cache-from"),
                cache_to=options.caches(cache_to, "--cache-to"),
            )
            if check or call:
                _answer(call, check, request, progress)
            if dry_run:
                _show_plan(request, progress, json)
                return
            wanted = _wanted(on_error)
            after = _afterwards(summary, metrics_file, otel)
            result = _build(request, "quiet" if quiet else progress, explain, after, wanted)
        _report(result, quiet, iidfile, metadata_file)


def _extras(entrypoint: bool, *given: list[str] | None) -> dict[str, Any]:
    """The request's fields for options that are rarely given."""
    if not entrypoint and not any(given):
        return {}
    from minibuild.cli.build_extras import extra_fields

    return extra_fields(entrypoint, *given)


def _allowances(allow: _Texts, spec_dirs: _Texts) -> dict[str, Any]:
    """The request's fields for ``--allow`` and ``--cdi-spec-dir``."""
    if not allow and not spec_dirs:
        return {}
    from minibuild.cli.build_extras import allowances

    return allowances(allow or (), spec_dirs or ())


def _outputs(texts: _Texts, push: bool, tags: tuple[Reference, ...]) -> tuple[OutputSpec, ...]:
    outputs = [parse_output(text) for text in texts or ()]
    if push:
        if not tags:
            raise UsageError("--push without a name", cure="Name the image with -t REGISTRY/NAME:TAG.")
        outputs.append(OutputSpec("image", push=True))
    return tuple(outputs)


def _build_args(texts: _Texts, files: _Texts) -> dict[str, str]:
    """The build arguments; SOURCE_DATE_EPOCH is one of them where the environment has it."""
    args: dict[str, str] = {}
    if files:
        from minibuild.cli.build_extras import arg_files

        args = arg_files(files, os.environ)
    args |= options.pairs(texts, "--build-arg", from_environment=True)
    epoch = args.setdefault("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH", ""))
    if not epoch:
        del args["SOURCE_DATE_EPOCH"]
    return args


def _answer(text: str, check: bool, request: BuildRequest, progress: str) -> None:
    """Answer ``--call`` and end, unless it asks for an ordinary build."""
    from minibuild.cli.call import answer, parse_call

    call = parse_call(text, check)
    if call is not None:
        with options.open_store() as store:
            sink = sink_for("quiet" if progress == "auto" else progress, sys.stderr)
            raise SystemExit(answer(call, request, store, sink))


def _show_plan(request: BuildRequest, progress: str, as_json: bool) -> None:
    from minibuild.cli.dry_run import show_plan

    with options.open_store() as store:
        sink = sink_for("quiet" if progress == "auto" else progress, sys.stderr)
        show_plan(request, store, sink, as_json=as_json)


def _wanted(on_error: str) -> OnError | None:
    if not on_error:
        return None
    from minibuild.cli.on_error import parse_on_error

    return parse_on_error(on_error)


def _build(
    request: BuildRequest, progress: str, explain: bool, after: Afterwards | None, wanted: OnError | None
) -> BuildResult:
    with stoppable() as cancel:
        with (
            after or nullcontext(),
            options.open_store() as store,
            sink_for(progress, sys.stderr, explain=explain) as display,
        ):
            sink: EventSink = display if wanted is None else wanted.held(display)
            if after is not None:
                sink = after.watching(sink)
            result = build(request, store=store, sink=sink, cancel=cancel, on_failure=wanted)
        if not all(step.cached for step in result.steps) or request.outputs:
            _keep_cap(request.isolation)
        return result


def _afterwards(summary: str, metrics: str, otel: bool) -> Afterwards | None:
    """What is to be made of the build's record; OpenTelemetry's variables ask for spans too."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not (summary or metrics or otel or any(name in os.environ for name in names)):
        return None
    from minibuild.cli.afterwards import Afterwards

    return Afterwards(summary, metrics, spans=otel)


def _keep_cap(isolation: str) -> None:
    """Make room where there is a cap; the store is closed by now, so this build keeps nothing from it."""
    from minibuild.engine.upkeep import cap_from, keep_cap

    cap = cap_from(os.environ)
    if cap is not None:
        with options.open_store() as store:
            done = keep_cap(store, cap, isolation)
        if done is not None and done.plan.left > cap:
            from minibuild.cli.sink import human_size

            left, most = human_size(done.plan.left), human_size(cap)
            print(
                f"NOTE: the store keeps {left}, more than its cap of {most}: names and pins hold it",
                file=sys.stderr,
            )


def _report(result: BuildResult, quiet: bool, iidfile: str, metadata_file: str) -> None:
    if iidfile:
        _write(iidfile, str(result.image_id))
    if metadata_file:
        document: dict[str, object] = {
            "containerimage.config.digest": result.image_id,
            "containerimage.digest": result.manifest,
        }
        if result.tags:
            document["image.name"] = ",".join(str(name) for name in result.tags)
        _write(metadata_file, json.dumps(document, indent=2) + "\n")
    if quiet:
        print(result.image_id)


def _write(name: str, text: str) -> None:
    """Write a small file whole; raises `OutputError`."""
    with output_file(Path(name)) as writer:
        writer.write(text.encode())
