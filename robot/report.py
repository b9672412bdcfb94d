"""Write the report of a run, or set results side by side: `python -m robot.report run=runs/navdp-navigation/<time>`."""

from omegaconf import DictConfig

from robot.core.cli import entry


@entry("report")
def main(cfg: DictConfig) -> None:
    """Write one self-contained page with curves, results, videos, the config and what to do next.

    Examples:
      python -m robot.report run=runs/navdp-navigation/<time>
      python -m robot.report run=runs/evaluate/dwa-navigation/<time>
      python -m robot.report results=[runs/mine,runs/evaluate/dwa-navigation/<time>] output=runs/comparison.html
      python -m robot.report results=[runs/sweep4,runs/sweep16,runs/sweep64] x=env.fleet
    """
    from robot.core.errors import ConfigError
    from robot.learn import report

    if bool(cfg.run) == bool(cfg.results):
        raise ConfigError("report: give either run=<run folder> or results=[<folder>,<folder>]")
    if cfg.run and cfg.output:
        raise ConfigError("output: the report of a run is written into its folder; output is for results=[…]")
    output = cfg.output or "runs/comparison.html"
    page = report.build_report(cfg.run) if cfg.run else report.compare(list(cfg.results), output, cfg.x)
    print(f"report    {page}")


if __name__ == "__main__":
    main()
