"""How shipped assets are made: body, pose prior, keypoint prior, calibration, start weights.

Nothing here is imported at run time.
"""
