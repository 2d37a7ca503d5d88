"""AlexNet on DeepSpeed: pipeline stages, columns and replicas over ranks."""
