"""What a picture will become, shown before anything is spent: its control picture, its watermark."""
