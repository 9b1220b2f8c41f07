"""The shared look of all pages: one template and one style sheet, no logic."""
