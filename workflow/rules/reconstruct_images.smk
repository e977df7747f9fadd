"""Decoded images: of clean tokens, of restored token maps, and the pictures that no tokenizer made."""

RECONSTRUCT_LOG = f"{LOGS}/reconstruct_images/{{tokenizer}}"


def reconstruct_slice(source, sample):
    """Params of a reconstruction: the sample's images and what corrupts them."""
    dataset = CONFIG.samples[sample].dataset
    return slice_of("reconstruct_images", f"samples.{sample}", tokenizer="{tokenizer}", source=source)


rule reconstruct_images:
    message:
        "reconstruct_images: {wildcards.tokenizer} decodes its own tokens"
    input:
        weights=f"{RESULTS}/train_tokenizer/{{tokenizer}}.safetensors",
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/reconstruction.parquet",
        code=stage_code("reconstruct_images"),
    output:
        images=f"{RESULTS}/reconstruct_images/{{tokenizer}}/reconstruction.parquet",
    params:
        config=reconstruct_slice("reconstruction", "reconstruction"),
    log:
        f"{RECONSTRUCT_LOG}/reconstruction.log",
    benchmark:
        f"{RECONSTRUCT_LOG}/reconstruction.benchmark.tsv"
    threads: 8
    shell:
        stage_command("reconstruct_images", ["weights", "tokens"], ["images"])
