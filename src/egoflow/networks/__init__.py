"""Networks from tensors to tensors; no loss, camera or file."""
