"""Data: COCO files, channels, images, augmentation, loaders."""
