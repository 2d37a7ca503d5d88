"""What is trained, the same for both backends: cases, weights at step 0, images, dropout masks."""
