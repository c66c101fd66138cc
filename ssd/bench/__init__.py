"""What detection costs on this CPU, and what the same network costs elsewhere."""
