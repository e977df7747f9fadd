"""One manifest per data set; unreadable images are listed, not fatal below a set share."""


rule index_images:
    input:
        assets=lambda wildcards: assets_of(f"datasets.{wildcards.dataset}"),
    output:
        manifest=f"{RESULTS}/index_images/{{dataset}}.parquet",
        rejected=f"{RESULTS}/index_images/{{dataset}}.rejected.csv",
    log:
        f"{LOGS}/index_images/{{dataset}}.log",
    benchmark:
        f"{LOGS}/index_images/{{dataset}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    params:
        **params_of("index_images", slice_of("seed", "index_images", "datasets.{dataset}", dataset="{dataset}")),
    message:
        "index_images: read every image of {wildcards.dataset}"
    shell:
        stage_command("index_images", [], ["manifest", "rejected"])


rule index_images_rejected:
    input:
        expand(f"{RESULTS}/index_images/{{dataset}}.rejected.csv", dataset=selections.used_datasets(CONFIG)),
    output:
        f"{RESULTS}/index_images/rejected.csv",
    log:
        f"{LOGS}/index_images/rejected.log",
    conda:
        ENVIRONMENT
    threads: 1
    message:
        "index_images: gather the unreadable images"
    shell:
        "python -m v2l.pipeline.show_results {input:q} {output:q} 2> {log:q}"
