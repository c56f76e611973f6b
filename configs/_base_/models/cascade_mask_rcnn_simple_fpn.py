# Cascade Mask R-CNN in the manner of ViTDet: three box heads, each at a higher IoU.
#
# mmdet's cascade differs from detectron2's, in which the paper's numbers were made:
# - Losses of the stages: detectron2 sums them and scales the gradient into the RoI features by 1/3.
#   The loss weights below give the features the same gradient, and AdamW does not mind the scale of
#   the heads' own.
# - Box losses are L1 (mmdet's cascade has smooth L1), proposals are 1000 in training (2000).
# - Left as mmdet has them, since they are hard-wired: one mask head in each stage (detectron2: one
#   on the first stage's proposals), which costs 5.3 M parameters, and by the weights above counts
#   as one in the loss; and every stage samples 512 boxes anew (detectron2: only the first).
_base_ = 'mask_rcnn_simple_fpn.py'

model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1 / 3] * 3,
        bbox_head=[
            dict(
                _base_.model.roi_head.bbox_head,
                reg_class_agnostic=True,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=stds
                ),
            )
            for stds in (
                [0.1, 0.1, 0.2, 0.2],
                [0.05, 0.05, 0.1, 0.1],
                [0.033, 0.033, 0.067, 0.067],
            )
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                _base_.model.train_cfg.rcnn,
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
)
