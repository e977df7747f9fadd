"""The pictures that a training sees, decoded once, where `train_tokenizer.decoded_images` asks for it."""


rule decode_images:
    input:
        assets=lambda wildcards: assets_of(f"datasets.{wildcards.dataset}"),
        manifest=f"{RESULTS}/index_images/{{dataset}}.parquet",
    output:
        images=f"{RESULTS}/decode_images/{{dataset}}.{{image_size}}px{{resize_via}}.npy",
    log:
        f"{LOGS}/decode_images/{{dataset}}.{{image_size}}px{{resize_via}}.log",
    benchmark:
        f"{LOGS}/decode_images/{{dataset}}.{{image_size}}px{{resize_via}}.benchmark.tsv"
    wildcard_constraints:
        image_size=r"\d+",
        resize_via=r"(-via-\d+)?",
    conda:
        ENVIRONMENT
    threads: 8
    resources:
        **SHARDS,
    params:
        **params_of(
            "decode_images",
            slice_of(
                "datasets.{dataset}",
                "decode_images",
                dataset="{dataset}",
                image_size="{image_size}",
                resize_via="{resize_via}",
            ),
        ),
    message:
        "decode_images: {wildcards.dataset} at {wildcards.image_size} pixels"
    shell:
        stage_command("decode_images", ["manifest"], ["images"], machine=SHARDS)
