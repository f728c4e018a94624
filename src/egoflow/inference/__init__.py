"""Prediction on videos and folders in constant memory."""
