"""Global codebook: entries among the top-k of some training image."""


rule filter_vocabulary:
    input:
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        embedding=rules.embed_vocabulary.output.embedding,
        manifest=f"{RESULTS}/index_images/{CONFIG.filter_vocabulary.dataset}.parquet",
        features=f"{RESULTS}/embed_images/{CONFIG.filter_vocabulary.dataset}.safetensors",
    output:
        codebook=f"{RESULTS}/filter_vocabulary/codebook.safetensors",
        entries=f"{RESULTS}/filter_vocabulary/entries.parquet",
    log:
        f"{LOGS}/filter_vocabulary/codebook.log",
    benchmark:
        f"{LOGS}/filter_vocabulary/codebook.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: SITE.cores
    resources:
        **SHARDS,
    params:
        **params_of("filter_vocabulary", slice_of("filter_vocabulary")),
    message:
        "filter_vocabulary: words that some training image needs"
    shell:
        stage_command(
            "filter_vocabulary",
            ["vocabulary", "embedding", "manifest", "features"],
            ["codebook", "entries"],
            machine=SHARDS,
        )
