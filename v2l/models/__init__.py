"""Networks: tokenizers, their parts and losses, and published weights brought into them."""
