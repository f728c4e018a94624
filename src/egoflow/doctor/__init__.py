"""What footage can teach, told before anything is trained: defects, motion, camera, and a verdict."""
