"""One image feature per manifest row, computed once for every stage."""


rule embed_images:
    input:
        assets=lambda wildcards: assets_of(f"encoders.{CONFIG.encoder}", f"datasets.{wildcards.dataset}"),
        manifest=f"{RESULTS}/index_images/{{dataset}}.parquet",
    output:
        features=f"{RESULTS}/embed_images/{{dataset}}.safetensors",
    log:
        f"{LOGS}/embed_images/{{dataset}}.log",
    benchmark:
        f"{LOGS}/embed_images/{{dataset}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: SITE.cores
    resources:
        **SHARDS,
    params:
        **params_of(
            "embed_images",
            slice_of(
                "encoder", f"encoders.{CONFIG.encoder}", "datasets.{dataset}", "embed_images", dataset="{dataset}"
            ),
        ),
    message:
        f"embed_images: {{wildcards.dataset}} by {CONFIG.encoder}"
    shell:
        stage_command("embed_images", ["manifest"], ["features"], machine=SHARDS)
