"""What users ask for, and what a run checks first and says last."""

from snakemake.logging import logger

from v2l.pipeline.check_results import check_results


localrules:
    fetch_assets,
    index_images_rejected,
    make_tables_show,
    make_figures_show,
    make_report_show,
    plan,
    check_results,
    all,
    all_tables,
    all_figures,
    report,


rule all_tables:
    input:
        expand("results/{table}.{format}", table=selections.tables(CONFIG), format=TABLE_FORMATS),
        rules.index_images_rejected.output,


rule all_figures:
    input:
        expand("results/figures/{figure}.{format}", figure=selections.figures(CONFIG), format=FIGURE_FORMATS),


rule report:
    input:
        rules.make_report_show.output,


rule plan:
    log:
        f"{LOGS}/plan/plan.log",
    conda:
        ENVIRONMENT
    params:
        experiment=lambda wildcards: CONFIG.model_dump_json(),  # not `config`: no path needs to be there
    message:
        f"plan: what experiment {CONFIG.experiment} costs on {', '.join(CONFIG.plan.machines)}"
    shell:
        "python -m v2l.plan --config {params.experiment:q} --log {log:q}"


rule check_results:
    log:
        f"{LOGS}/check_results/check_results.log",
    message:
        f"check_results: whether the results of experiment {CONFIG.experiment} are those of its present state"
    run:
        if not check_results(workflow, Path(RESULTS), Path(log[0])):
            raise WorkflowError("some results do not match; see above")


if {"-n", "--dry-run", "--dryrun"} & set(sys.argv):
    missing = required_files.missing_paths([CONFIG.model_dump_json()], required_files.trained_files(CONFIG))
    if missing:
        logger.warning(required_files.missing_text(missing))


onstart:
    jobs = [job for job in workflow.dag.needrun_jobs() if "config" in job.params.keys()]
    missing = required_files.missing_paths(
        [job.params.config for job in jobs], required_files.trained_files(CONFIG)
    )
    if missing:
        raise WorkflowError(required_files.missing_text(missing))
    if workflow.local_exec:
        try:
            card_check.check_cards(card_check.local_cards(), {job.params.config for job in jobs})
        except UserError as error:
            raise WorkflowError(str(error)) from None


onsuccess:
    minutes = timings.stage_minutes(Path(LOGS))
    if minutes:
        print(f"Minutes per stage of experiment {CONFIG.experiment}:", minutes, sep="\n")
